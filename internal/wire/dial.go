package wire

// OpDial connects to a server in the guest, by the guest's own loopback: it
// takes no network between host and guest.
//
// The guest answers Done when it is connected, or Error. Then KindData goes both
// ways, and each side's end of stream is the end of its direction, as a shutdown
// of a socket is. A stream that is reset is a connection that broke.
const OpDial Op = "dial"

// DialRequest names a TCP port of the guest. Address is 127.0.0.1 or ::1; empty
// is the first of the two where something listens.
type DialRequest struct {
	Port    int    `json:"port"`
	Address string `json:"address,omitempty"`
}
