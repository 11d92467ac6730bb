"""Results that were kept, and the pages that show them: no table and no keyed number in them is typed."""
