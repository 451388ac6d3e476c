"""`entrepot doctor`: whether clients can pull through a running appliance, by every route."""
