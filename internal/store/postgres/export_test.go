package postgres

// ErrConnection is what marks an error after which the connection could not be used any more.
var ErrConnection = errConnection
