"""The models folder: base weights and how they are downloaded, model cards, loading, and serving folders. Imports no back end."""
