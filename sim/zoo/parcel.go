package zoo

// letter is what a parcel says.
type letter uint8

const (
	theHello   letter = iota // of a client that opens or resumes its session
	theRequest               // of a client with a session
	theEnd                   // the client has closed its end
	theWelcome               // a session
	theExpiry                // the session that was asked for has expired
	theAnswer                // to a request
	theEvent                 // of a watch
	theClosing               // the server has closed its end
)

func (l letter) toServer() bool { return l <= theEnd }

// parcel is a message on its way. Parcels are used again and again: they are most of what happens.
type parcel struct {
	k      *conn
	n      int // its number among those to the server; 0 if it cannot get lost
	letter letter
	req    *request
	sess   *session
	zxid   int64
	path   string
	event  event
	come   func() // deliver, bound once
}

// parcel takes a free one.
func (k *conn) parcel(l letter) *parcel {
	e := k.e
	var p *parcel
	if n := len(e.parcels); n > 0 {
		p, e.parcels = e.parcels[n-1], e.parcels[:n-1]
	} else {
		p = &parcel{}
		p.come = p.deliver
	}
	p.k, p.letter = k, l
	return p
}

// deliver is the parcel's arrival. A process that stands still takes it when it goes on.
func (p *parcel) deliver() {
	k := p.k
	switch {
	case !p.letter.toServer():
		if k.c.paused {
			k.c.do(p.come)
			return
		}
		k.hear(p)
	case p.n > k.toServer.limit:
	case k.s.frozen:
		k.s.do(p.come)
		return
	default:
		k.toServer.come = max(k.toServer.come, p.n)
		k.arrive(p)
	}
	*p = parcel{come: p.come}
	k.e.parcels = append(k.e.parcels, p)
}

// arrive has the server take a message.
func (k *conn) arrive(p *parcel) {
	if !k.serverOpen {
		return
	}
	if p.letter == theEnd {
		k.shut()
		return
	}
	k.touched()
	if p.letter == theHello {
		k.hello(p.req)
	} else {
		k.serve(p.req)
	}
}

// hear has the client take a message.
func (k *conn) hear(p *parcel) {
	if !k.clientOpen {
		return
	}
	k.heard = k.e.now()
	if k.up && !k.hears {
		k.watchSilence()
	}
	switch p.letter {
	case theWelcome:
		k.c.welcomed(k, p.sess)
	case theExpiry:
		k.c.expired(k)
	case theAnswer:
		k.c.answered(p.req, p.zxid)
	case theEvent:
		k.c.fired(p.path, p.event)
	case theClosing:
		k.c.lose(k)
	}
}
