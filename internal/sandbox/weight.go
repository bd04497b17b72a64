package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Weight says how much of the machine a command gets while others want it, too. Alone it gets all of it.
type Weight string

// The weights. On a machine that is also production, nothing else may be as heavy as what serves users.
const (
	Full   Weight = ""       // production
	Low    Weight = "low"    // staging
	Lowest Weight = "lowest" // builds, tests and what people run by hand
)

// WorkshopOOM is the OOMScoreAdj of builds, tests and one-off commands: the kernel takes them first when memory runs out.
const WorkshopOOM = 800

// Nice is the weight as a nice value: 5 is a third of a busy process of full weight, 10 a ninth. Lower still, a
// build on a busy machine would not end.
func (w Weight) Nice() int {
	switch w {
	case Low:
		return 5
	case Lowest:
		return 10
	default:
		return 0
	}
}

// Share is the weight of a control group, in hundredths of one of full weight: as much as Nice comes to.
func (w Weight) Share() int {
	switch w {
	case Low:
		return 33
	case Lowest:
		return 11
	default:
		return 100
	}
}

// Classes of the disk's scheduler, and how a priority is put together (linux/ioprio.h).
const (
	ioBestEffort = 2
	ioIdle       = 3
	ioClassShift = 13
	ioLast       = 7 // the last level of a class
	ioWhoProcess = 1
)

// ioPriority returns what ioprio_set takes; 0 leaves it as it is.
func (w Weight) ioPriority() int {
	switch w {
	case Low:
		return ioBestEffort<<ioClassShift | ioLast
	case Lowest:
		return ioIdle << ioClassShift
	default:
		return 0
	}
}

// apply makes the calling thread, and what it executes, as light as w says.
func (w Weight) apply() error {
	if w == Full {
		return nil
	}
	if err := unix.Setpriority(unix.PRIO_PROCESS, 0, w.Nice()); err != nil {
		return fmt.Errorf("set nice %d: %w", w.Nice(), err)
	}
	niceSession(w.Nice())
	// The rest is a wish: a kernel or a container may not know it.
	if w == Lowest {
		_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_BATCH, Nice: int32(w.Nice())}, 0)
	}
	_, _, _ = unix.Syscall(unix.SYS_IOPRIO_SET, ioWhoProcess, 0, uintptr(w.ioPriority()))
	return nil
}

// niceSession sets the nice value of the session as a whole. Where the kernel groups processes by session, that of a
// process counts only within its own session: without this a build would weigh as much as all of production.
func niceSession(nice int) {
	// Without rights the kernel takes one such change in a tenth of a second.
	for range 5 {
		err := os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(nice)), 0)
		if !errors.Is(err, unix.EAGAIN) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}
