"""Train an embedded model: `python -m tokenrank_guidance.tiny.train tiny-flux --data FILE`."""
