"""What could run here? Pure: values in, values out."""
