package main

import (
	"encoding/json"
	"log"

	"github.com/gorilla/websocket"
)

type clients map[*client]struct{}

// hub knows the subscribers of each channel; all its state belongs to the goroutine of run.
type hub struct {
	arrivals    chan *client
	departures  chan *client
	requests    chan request
	events      chan event
	subscribers map[string]clients
	connected   clients
}

// request is a client's change of its subscriptions.
type request struct {
	client   *client
	Action   string   `json:"action"`
	Channels []string `json:"channels"`
}

type reply struct {
	Type     string   `json:"type"`
	Channels []string `json:"channels"`
}

func newHub() *hub {
	return &hub{
		arrivals:    make(chan *client),
		departures:  make(chan *client),
		requests:    make(chan request),
		events:      make(chan event),
		subscribers: make(map[string]clients),
		connected:   make(clients),
	}
}

func (h *hub) run() {
	for {
		select {
		case client := <-h.arrivals:
			h.connected[client] = struct{}{}
		case client := <-h.departures:
			h.forget(client)
		case request := <-h.requests:
			h.answer(request)
		case event := <-h.events:
			h.publish(event)
		}
	}
}

func (h *hub) answer(request request) {
	if _, found := h.connected[request.client]; !found {
		return // dropped in the meantime
	}
	for _, channel := range request.Channels {
		if request.Action != "subscribe" {
			delete(h.subscribers[channel], request.client)
			continue
		}
		if h.subscribers[channel] == nil {
			h.subscribers[channel] = make(clients)
		}
		h.subscribers[channel][request.client] = struct{}{}
	}
	text, err := json.Marshal(reply{Type: request.Action + "d", Channels: request.Channels})
	if err != nil {
		log.Print(err)
		return
	}
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil {
		log.Print(err)
		return
	}
	h.send(request.client, message)
}

// publish sends to each subscriber once, however many of its subscriptions match.
func (h *hub) publish(event event) {
	for place, subscription := range event.subscriptions {
		for client := range h.subscribers[subscription] {
			if !h.isSubscribed(client, event.subscriptions[:place]) {
				h.send(client, event.message)
			}
		}
	}
}

func (h *hub) isSubscribed(client *client, subscriptions []string) bool {
	for _, subscription := range subscriptions {
		if _, found := h.subscribers[subscription][client]; found {
			return true
		}
	}
	return false
}

// send drops a client that is too far behind.
func (h *hub) send(client *client, message *websocket.PreparedMessage) {
	select {
	case client.outbox <- message:
	default:
		log.Print("a client that is too far behind is dropped")
		h.forget(client)
	}
}

func (h *hub) forget(client *client) {
	if _, found := h.connected[client]; !found {
		return
	}
	delete(h.connected, client)
	for _, subscribers := range h.subscribers {
		delete(subscribers, client)
	}
	close(client.outbox)
}
