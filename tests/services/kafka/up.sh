#!/usr/bin/env bash
# Starts a Kafka broker of one node (KRaft: its own controller) on 127.0.0.1, with its data in FOLDER, and waits until it answers.
#
#   tests/services/kafka/up.sh FOLDER
#
#   KAFKA_USERS        "name=password …": clients log in with SASL (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512), and may do only what
#                      they are given rights for (StandardAuthorizer). The first is a superuser.
#   KAFKA_TLS          clients come over TLS; this file (PEM) has the broker's key and its certificate
#   KAFKA_CLIENTS_CA   with KAFKA_TLS: clients show a certificate that one of these authorities (a PEM file) has signed
#   KAFKA_ADVERTISED   where clients are told to find the broker, as address:port, if something stands before it
#   KAFKA_HEAP         the broker's heap, default 512m
set -euo pipefail
service=kafka
. "${BASH_SOURCE[0]%/*}/../lib.sh"
here=$root/tests/services/kafka

jars=$("$root/scripts/tools.sh" kafka)
mkdir -p "$1" && folder=$(cd "$1" && pwd)
pid=$(pid_of "$folder") && fail "already runs in $folder, as process $pid"
[ -s "$folder/port" ] || free_ports 3 >"$folder/port"
port=$(cat "$folder/port") controller=$(($(cat "$folder/port") + 1)) internal=$(($(cat "$folder/port") + 2))

protocol=PLAINTEXT
if [ -n "${KAFKA_TLS:-}" ]; then protocol=SSL; fi
if [ -n "${KAFKA_USERS:-}" ]; then protocol=SASL_$protocol; fi

# One node cannot keep three copies of anything. Topics are created by those who want them: a typo makes none.
cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=CLIENTS://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller,INTERNAL://127.0.0.1:$internal
advertised.listeners=CLIENTS://${KAFKA_ADVERTISED:-127.0.0.1:$port},INTERNAL://127.0.0.1:$internal
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=CLIENTS:$protocol,CONTROLLER:PLAINTEXT,INTERNAL:PLAINTEXT
log.dirs=$folder/data
num.partitions=4
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=4
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
# A broker that was killed may come back at once.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=2000
PROPERTIES
# Under the listener's own name, because Kafka asks for no certificate where there is a login unless it is told so for that listener.
if [ -n "${KAFKA_TLS:-}" ]; then
  cat >>"$folder/server.properties" <<PROPERTIES
listener.name.clients.ssl.keystore.type=PEM
listener.name.clients.ssl.keystore.location=$KAFKA_TLS
PROPERTIES
fi
if [ -n "${KAFKA_CLIENTS_CA:-}" ]; then
  cat >>"$folder/server.properties" <<PROPERTIES
listener.name.clients.ssl.client.auth=required
listener.name.clients.ssl.truststore.type=PEM
listener.name.clients.ssl.truststore.location=$KAFKA_CLIENTS_CA
PROPERTIES
fi
scram=()
if [ -n "${KAFKA_USERS:-}" ]; then
  read -ra users <<<"$KAFKA_USERS"
  logins=$(printf ' user_%s"' "${users[@]/=/=\"}")
  for user in "${users[@]}"; do
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      scram+=(--add-scram "$mechanism=[name=${user%%=*},password=${user#*=}]")
    done
  done
  # The broker's own connections come without a name.
  cat >>"$folder/server.properties" <<PROPERTIES
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.clients.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required$logins;
listener.name.clients.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:${users[0]%%=*}
PROPERTIES
fi

options=(-XX:+UseSerialGC -Djava.net.preferIPv4Stack=true "-Dlog4j2.configurationFile=$here/log4j2.properties" -cp "$jars/*")
if [ ! -f "$folder/data/meta.properties" ]; then
  cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' 'AB' | tr -d '=')
  java -XX:TieredStopAtLevel=1 "${options[@]}" kafka.tools.StorageTool format -t "$cluster" -c "$folder/server.properties" "${scram[@]}" \
    >"$folder/format.log" 2>&1 || { tail -n 20 "$folder/format.log" >&2 && fail "the folder $folder could not be formatted"; }
fi
setsid java -Xms64m -Xmx"${KAFKA_HEAP:-512m}" -XX:+ExitOnOutOfMemoryError "${options[@]}" kafka.Kafka "$folder/server.properties" \
  >>"$folder/broker.log" 2>&1 </dev/null &
echo $! >"$folder/pid"
wait_ready "$folder" "$folder/broker.log" python3 "$here/ask.py" "$internal" ready
echo "pid=$(cat "$folder/pid") bootstrap=127.0.0.1:$port internal=127.0.0.1:$internal log=$folder/broker.log"
