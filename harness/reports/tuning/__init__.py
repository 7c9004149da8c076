"""What a tuning says, as text, Markdown and a document: commands may import it; it imports the tuning room."""
