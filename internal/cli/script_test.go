package cli

import "testing"

func testMain(m *testing.M) { m.Run() }
