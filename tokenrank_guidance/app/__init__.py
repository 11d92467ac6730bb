"""The explorer: a page on which attention is a chain that can be touched, and what it shows without a page.

`state` says what is shown, `explorer` computes it by the library's own functions, `page` is Gradio's part.
"""
