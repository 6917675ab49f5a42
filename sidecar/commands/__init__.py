"""Commands of the command line that are more than a call: one file each, named as the command."""
