"""How a message leaves the line and reaches whoever asked for it: journal, publisher, replay, and the client.

A message is in the journal before it is published; what the live socket loses, the replay gives again.
"""
