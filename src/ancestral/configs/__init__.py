"""Every ``Config``, once: the Python signature, the command line's flags and the run folder's file are all it.

Nothing here imports torch, so that ``ancestral train vae --help`` answers at once.
"""
