/* Something to load and unload. */
int plugged(int value) { return value * 2; }
