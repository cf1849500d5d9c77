"""Many small models trained together in one worker.

`rules` says, without torch, which trials train together and how many are handed out at once; `stack` computes a
training step of many fully connected networks with one operation for all of them; `training` is the loop.
"""
