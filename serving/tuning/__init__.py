"""From labelled rows to a tuned version: dataset, training, registration. Files in, files out."""
