package wire

import "testing"

// TestUnread: what was sent counts as unread until the peer has read it, and
// never less than that is told.
func TestUnread(t *testing.T) {
	host, guest := session(t)
	h, g := pair(t, host, guest)
	before := g.Unread()
	told := make(chan int, 100)
	g.OnRead(func() { told <- g.Unread() })
	const n = window / 2
	if err := g.Send(KindData, pattern(n)); err != nil {
		t.Fatal(err)
	}
	if got := g.Unread(); got < before+n {
		t.Errorf("%d unread of %d", got, before+n)
	}
	for read := 0; read < n; {
		_, b, err := h.Recv()
		if err != nil {
			t.Fatal(err)
		}
		read += len(b)
	}
	if got := <-told; got >= before+n {
		t.Errorf("%d unread once it was told", got)
	}
	g.Close()
	h.Close()
}
