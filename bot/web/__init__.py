"""The local web app: pages on 127.0.0.1 for the person who runs the bot."""
