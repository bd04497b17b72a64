package proxy

func rawClient([]string) int { return 2 }
