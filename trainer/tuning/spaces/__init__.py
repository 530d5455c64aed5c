"""What a study searches: parameters, their ranges as people write them, and the conditions between them."""
