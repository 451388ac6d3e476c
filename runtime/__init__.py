"""What every process uses and no component owns: it imports none of the other packages."""
