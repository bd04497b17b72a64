package domain

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"time"
)

// idAlphabet sorts as its bytes do, and leaves out letters that look alike.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// NewID returns prefix, such as "dly_", and 26 characters that sort by the time they were made at, to the nanosecond.
func NewID(prefix string) string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixNano())) // positive until 2262
	_, _ = rand.Read(b[8:])                                         // never fails: it ends the process instead
	return prefix + base32.NewEncoding(idAlphabet).WithPadding(base32.NoPadding).EncodeToString(b[:])
}
