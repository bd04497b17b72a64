package process

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/belay-cd/belay/internal/supervise"
)

// tcpListen is the state of a listening socket in /proc/net/tcp.
const tcpListen = "0A"

// listening returns the TCP ports on which a process or one of its descendants listens, sorted. What cannot be read is left
// out: it only makes a message poorer.
func listening(pid int) []int {
	sockets := map[string]int{} // port by inode
	for _, table := range []string{"tcp", "tcp6"} {
		readListeners(fmt.Sprintf("/proc/%d/net/%s", pid, table), sockets)
	}
	var ports []int
	for _, p := range supervise.Tree(pid) {
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			target, err := os.Readlink(fd)
			if err != nil {
				continue
			}
			if port, ok := sockets[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")]; ok {
				ports = append(ports, port)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

func readListeners(path string, sockets map[string]int) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Fields(lines.Text())
		if len(cells) < 10 || cells[3] != tcpListen {
			continue
		}
		_, port, _ := strings.Cut(cells[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil {
			sockets[cells[9]] = int(n)
		}
	}
}
