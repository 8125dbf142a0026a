"""TODO reddit"""
