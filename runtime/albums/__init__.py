"""What each task leaves for people beside the messages of an inspection: pictures, masks, reports."""
