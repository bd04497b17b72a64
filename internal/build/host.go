package build

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/belay-cd/belay/internal/registry"
)

// hostPrograms says which programs of the host an artifact needs: the loader of dynamically linked programs, the
// interpreters of scripts, what links lead to, and what the roles' commands name. Each with one file that needs it.
func hostPrograms(root *os.Root, r Request, names []string) ([]string, error) {
	needs := map[string]string{}
	need := func(program, by string) {
		if program != "" && needs[program] == "" {
			needs[program] = by
		}
	}
	for _, name := range names {
		info, err := root.Lstat(name)
		if err != nil {
			return nil, err
		}
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			need(registry.LinksToSystem(root, name), name)
		case info.Mode().IsRegular() && info.Mode()&0o111 != 0:
			program, err := interpreter(root, name)
			if err != nil {
				return nil, err
			}
			if !strings.HasPrefix(program, r.Dir+"/") {
				need(program, name)
			}
		}
	}
	for _, run := range r.Roles {
		need(programOf(run, names), headline(run))
	}
	all := make([]string, 0, len(needs))
	for program, by := range needs {
		all = append(all, fmt.Sprintf("%s (%s)", program, by))
	}
	slices.Sort(all)
	return all[:min(len(all), 20)], nil
}

// interpreter returns what the kernel starts to run an executable file, "" when it needs nothing.
func interpreter(root *os.Root, name string) (program string, err error) {
	f, err := openFile(root, name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	if script, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ := bytes.Cut(script, []byte("\n"))
		return ofScript(strings.Fields(string(line))), nil
	}
	if bytes.HasPrefix(head, []byte(elf.ELFMAG)) {
		return ofProgram(f), nil
	}
	return "", nil
}

func ofScript(words []string) string {
	if len(words) == 0 {
		return ""
	}
	if path.Base(words[0]) == "env" {
		for _, word := range words[1:] {
			if !strings.HasPrefix(word, "-") && !strings.Contains(word, "=") {
				return word
			}
		}
	}
	return words[0]
}

// ofProgram returns the loader of a dynamically linked program. What cannot be read as ELF needs none that we know of.
func ofProgram(r io.ReaderAt) string {
	f, err := elf.NewFile(r)
	if err != nil {
		return ""
	}
	for _, segment := range f.Progs {
		if segment.Type == elf.PT_INTERP && segment.Filesz < 4096 {
			body, err := io.ReadAll(segment.Open())
			if err == nil {
				return strings.TrimRight(string(body), "\x00")
			}
		}
	}
	return ""
}

// programOf returns the program of the host that a role's command names, "" when it is one of the artifact.
func programOf(run string, names []string) string {
	for _, word := range strings.Fields(run) {
		if strings.Contains(word, "=") || word == "exec" || word == "env" {
			continue
		}
		word = strings.Trim(word, `"'`)
		if _, found := slices.BinarySearch(names, path.Clean(word)); found && strings.Contains(word, "/") {
			return ""
		}
		return word
	}
	return ""
}
