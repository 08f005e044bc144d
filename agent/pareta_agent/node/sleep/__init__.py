"""Sleep: scales idle endpoints to zero and starts them again on demand."""
