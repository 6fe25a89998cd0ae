package main

import (
	"log"
	"time"

	"github.com/gorilla/websocket"
)

const (
	outboxMessages = 2048 // a burst of 500 events several times over
	writeTimeout   = 10 * time.Second
	pongTimeout    = 60 * time.Second
	pingPeriod     = 30 * time.Second
	maxRequest     = 4096
)

type client struct {
	hub        *hub
	connection *websocket.Conn
	outbox     chan *websocket.PreparedMessage
}

func newClient(hub *hub, connection *websocket.Conn) *client {
	return &client{hub: hub, connection: connection, outbox: make(chan *websocket.PreparedMessage, outboxMessages)}
}

// read passes the client's requests to the hub until the client is gone.
func (c *client) read() {
	defer c.connection.Close()
	defer func() { c.hub.departures <- c }()
	c.connection.SetReadLimit(maxRequest)
	c.connection.SetReadDeadline(time.Now().Add(pongTimeout))
	c.connection.SetPongHandler(func(string) error {
		return c.connection.SetReadDeadline(time.Now().Add(pongTimeout))
	})
	for {
		request := request{client: c}
		if err := c.connection.ReadJSON(&request); err != nil {
			if websocket.IsUnexpectedCloseError(err, websocket.CloseNormalClosure, websocket.CloseAbnormalClosure) {
				log.Print(err)
			}
			return
		}
		c.hub.requests <- request
	}
}

// write sends the messages of the outbox one by one, and pings.
func (c *client) write() {
	ticker := time.NewTicker(pingPeriod)
	defer ticker.Stop()
	defer c.connection.Close()
	for {
		select {
		case message, open := <-c.outbox:
			c.connection.SetWriteDeadline(time.Now().Add(writeTimeout))
			if !open {
				c.connection.WriteMessage(websocket.CloseMessage, nil)
				return
			}
			if err := c.connection.WritePreparedMessage(message); err != nil {
				return
			}
		case <-ticker.C:
			c.connection.SetWriteDeadline(time.Now().Add(writeTimeout))
			if err := c.connection.WriteMessage(websocket.PingMessage, nil); err != nil {
				return
			}
		}
	}
}
