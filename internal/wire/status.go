package wire

// statuses are the HTTP statuses of the codes, in both directions: what a
// server answers with, and what a client takes an answer without a code for.
// The first status of a code is the one it is sent as.
var statuses = []struct {
	code   Code
	status int
}{
	{Invalid, 400}, {Invalid, 422}, {Invalid, 413}, {Invalid, 405}, {Invalid, 415}, {Invalid, 416},
	{Unauthorized, 401},
	{Denied, 403},
	{NotFound, 404},
	{Conflict, 409}, {Conflict, 412},
	{Exhausted, 507}, {Exhausted, 429},
	{Timeout, 504}, {Timeout, 408},
	{Unavailable, 503}, {Unavailable, 502},
	{Internal, 500},
}

// Status is the HTTP status that an error of this class is answered with.
func (c Code) Status() int {
	for _, s := range statuses {
		if s.code == c {
			return s.status
		}
	}
	return 500
}

// CodeOfStatus is the class of an answer with this HTTP status.
func CodeOfStatus(status int) Code {
	for _, s := range statuses {
		if s.status == status {
			return s.code
		}
	}
	if status >= 400 && status < 500 {
		return Invalid
	}
	return Internal
}
