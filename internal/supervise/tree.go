package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxTree bounds the walk: a fork bomb is not counted.
const maxTree = 1000

// Tree returns a process and everything below it. What cannot be read is left out.
func Tree(pid int) []int {
	all := []int{pid}
	for i := 0; i < len(all) && len(all) < maxTree; i++ {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		if err != nil {
			continue
		}
		for _, name := range threads {
			content, err := os.ReadFile(name)
			if err != nil {
				continue
			}
			for word := range strings.FieldsSeq(string(content)) {
				if child, err := strconv.Atoi(word); err == nil {
					all = append(all, child)
				}
			}
		}
	}
	return all
}

// members returns every process of an instance: those of its control group, or the process with all below it, and what
// came to its shim when its parent ended.
func members(g Group, child Proc, shim int) []int {
	if len(g.dirs) > 0 {
		return g.PIDs()
	}
	var all []int
	if child.Alive() {
		all = Tree(child.PID)
	}
	all = append(all, Tree(shim)[1:]...)
	slices.Sort(all)
	return slices.Compact(all)
}

// Rescore makes later starts of the instance in dir run with another oom_score_adj, and returns the processes that run now:
// theirs is the caller's to write.
func Rescore(dir string, score int) ([]int, error) {
	var spec Spec
	path := filepath.Join(dir, specFile)
	if err := ReadJSON(path, &spec); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // stopped
		}
		return nil, err
	}
	spec.Command.OOMScoreAdj = score
	if err := WriteJSON(path, spec); err != nil {
		return nil, err
	}
	state, err := ReadState(dir)
	if err != nil {
		return nil, err
	}
	group, _ := NewGroup(spec.Group, Limits{})
	return members(group, state.Child, state.Shim.PID), nil
}
