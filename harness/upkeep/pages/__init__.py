"""What the pages in docs/ print of the code: each table is made here and compared with the page by a test."""
