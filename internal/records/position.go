package records

import (
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// position is how far a backfill has come: through the records first, then through the tenants of records.
type position struct {
	Table   string
	After   []pivot `json:",omitempty"` // the primary key of the last record
	Orphans bool    `json:",omitempty"` // the records are done
	Owner   string  `json:",omitempty"` // the record of the last tenant
	Done    bool    `json:"-"`
}

// pivot is the value of a column of a primary key as the database takes it. What a model's field makes of it need not
// lead back.
type pivot struct {
	Kind  string // int, text, bytes or time
	Value []byte
}

func newPivot(value any) (pivot, error) {
	value, err := driver.DefaultParameterConverter.ConvertValue(value)
	if err != nil {
		return pivot{}, err
	}
	switch v := value.(type) {
	case int64:
		return pivot{"int", strconv.AppendInt(nil, v, 10)}, nil
	case string:
		return pivot{"text", []byte(v)}, nil
	case []byte:
		return pivot{"bytes", v}, nil
	case time.Time:
		return pivot{"time", v.AppendFormat(nil, time.RFC3339Nano)}, nil
	}
	return pivot{}, fmt.Errorf("a value of the type %T in a primary key cannot be gone on from", value)
}

func (p pivot) value() (any, error) {
	switch p.Kind {
	case "int":
		return strconv.ParseInt(string(p.Value), 10, 64)
	case "text":
		return string(p.Value), nil
	case "bytes":
		return p.Value, nil
	case "time":
		return time.Parse(time.RFC3339Nano, string(p.Value))
	}
	return nil, fmt.Errorf("unknown kind %q", p.Kind)
}

func (p position) String() string {
	if p.Done {
		return ""
	}
	b, _ := json.Marshal(p) // of strings and bytes
	return base64.RawURLEncoding.EncodeToString(b)
}

func (p *position) parse(s string) error {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = json.Unmarshal(b, p)
	}
	for _, v := range p.After {
		if err == nil {
			_, err = v.value()
		}
	}
	if err != nil || p.Table == "" {
		return fmt.Errorf("%.32q is not the Resume of a report", s)
	}
	return nil
}
