"""Operations: calls in flight, and what hooks do to them."""
