"""What this machine has, what is wrong with it, and what to do: `ferrosight doctor`."""
