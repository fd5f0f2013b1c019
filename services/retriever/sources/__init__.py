"""Where documents are fetched from: web pages, S3 objects and local files, each within the limits of the settings."""
