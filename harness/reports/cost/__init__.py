"""What a cost says, as text, Markdown, a page and the report's chapter: commands may import it; it imports cost."""
