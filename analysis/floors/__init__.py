"""Statistics that distinguish trained SAEs from their floors."""
