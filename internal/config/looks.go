package config

// LooksSecret says what kind of secret a variable's value seems to be, "" for none. Such a value is refused under env.
func LooksSecret(name, value string) string { return looksSecret(name, value) }
