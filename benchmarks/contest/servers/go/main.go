// The peer written with gorilla/websocket: a hub, and for each client a goroutine that reads and one that writes.
package main

import (
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
	"github.com/gorilla/websocket"
)

const (
	path                = "/public/v1/stream"
	keyHeader           = "X-API-Key"
	keyVariable         = "TORNADO_BRIDGE_API_KEY"
	confirmationTimeout = 10 * time.Second
)

func main() {
	port := flag.Int("port", 0, "")
	redisURL := flag.String("redis-url", "", "")
	exchange := flag.String("exchange", "", "ID:NAME")
	compression := flag.Bool("compression", false, "offer permessage-deflate")
	flag.Parse()
	if *redisURL == "" || *exchange == "" {
		fmt.Fprintln(os.Stderr, "--redis-url and --exchange are required")
		os.Exit(2)
	}
	exchangeID, _, _ := strings.Cut(*exchange, ":")

	candles, err := subscribe(*redisURL, fmt.Sprintf("channel:exchange:%s:candle:close:*:*", exchangeID))
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		log.Fatal(err)
	}
	hub := newHub()
	go hub.run()
	go func() { log.Fatal(relay(candles, hub)) }()

	http.Handle(path, stream(hub, websocket.Upgrader{EnableCompression: *compression}))
	fmt.Printf("listening on http://127.0.0.1:%d\n", listener.Addr().(*net.TCPAddr).Port)
	log.Fatal(http.Serve(listener, nil))
}

func stream(hub *hub, upgrader websocket.Upgrader) http.HandlerFunc {
	key := []byte(os.Getenv(keyVariable))
	return func(response http.ResponseWriter, request *http.Request) {
		if subtle.ConstantTimeCompare([]byte(request.Header.Get(keyHeader)), key) != 1 {
			http.Error(response, "Invalid API key", http.StatusUnauthorized)
			return
		}
		connection, err := upgrader.Upgrade(response, request, nil)
		if err != nil {
			log.Print(err)
			return
		}
		client := newClient(hub, connection)
		hub.arrivals <- client
		go client.write()
		go client.read()
	}
}

// subscribe returns once Redis has confirmed.
func subscribe(url, pattern string) (*redis.PubSubConn, error) {
	connection, err := redis.DialURL(url)
	if err != nil {
		return nil, err
	}
	subscriber := &redis.PubSubConn{Conn: connection}
	if err := subscriber.PSubscribe(pattern); err != nil {
		return nil, err
	}
	switch reply := subscriber.ReceiveWithTimeout(confirmationTimeout).(type) {
	case redis.Subscription:
		return subscriber, nil
	case error:
		return nil, reply
	default:
		return nil, errors.New("Redis has not confirmed the subscription")
	}
}

// relay hands every candle to the hub until the connection to Redis breaks.
func relay(candles *redis.PubSubConn, hub *hub) error {
	for {
		switch received := candles.Receive().(type) {
		case redis.Message:
			event, err := newEvent(received.Channel, received.Data)
			if err != nil {
				log.Print(err)
				continue
			}
			hub.events <- event
		case error:
			return received
		}
	}
}
