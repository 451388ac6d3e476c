"""What runs below the application: answers on their way out, and connections that end."""
