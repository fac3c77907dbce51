"""What a person sees of a sweep: terminal, contact sheet, page and files."""
