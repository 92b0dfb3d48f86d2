// Package wire is what the host and the guest agent say to each other, and
// how: frames over one byte stream, a mux of streams with flow control, a
// handshake that survives garbage and reconnects, and the messages that travel
// on the streams. It imports the standard library only: it is linked into the
// agent, which lives in every guest's memory.
//
// The other side is never trusted. Everything that is read is bounded.
package wire
