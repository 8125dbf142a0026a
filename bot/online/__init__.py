"""The online stages and commands, one file each: fetch, generate, rank, choose, submit; inbox, harvest, adopt, check."""
