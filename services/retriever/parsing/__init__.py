"""Reads PDF, DOCX, HTML, Markdown and text into one form and cuts it, in child processes with limits."""
