"""The front door: the only part that prints, or reads the command line and the environment."""
