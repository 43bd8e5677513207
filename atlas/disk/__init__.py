"""What an atlas stores on disk: its folder, its parts, and files that are complete or absent."""
