package domain

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"strings"
	"time"
)

// NewID returns a new id with a prefix: dly_, rol_, rel_. Ids sort by the time at which they were made (milliseconds), and
// carry 80 random bits.
func NewID(prefix string) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], uint64(time.Now().UnixMilli())<<16)
	_, _ = rand.Read(b[6:]) // never fails: the runtime ends the process instead
	return prefix + strings.ToLower(sortable.EncodeToString(b[:]))
}

// sortable keeps the order of bytes: its letters are in the order of their codes.
var sortable = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)
