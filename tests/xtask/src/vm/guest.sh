# What runs in the machine; `cargo xtask vm` puts what is to be done in front of it.
export HOME=/root PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
# Not all of them are loaded by whoever needs them; what is missing is found out by those who do.
modprobe -a tun veth 8021q vxlan macvlan nf_tables nft_chain_nat nft_masq nft_fib_inet nft_ct nft_redir ip_tables iptable_filter ip6table_filter >/dev/null 2>&1
cd "$folder" || exit 1
if [ -n "$command" ]; then
    (eval "$command")
    echo $? >"$results/code"
    exit
fi

# Into memory: the files of the host are far away.
memory=/dev/shm/programs
mkdir -p "$memory"
cp "$programs"/* "$memory/"
export VSWITCHD="$memory/vswitchd" VSWITCHCTL="$memory/vswitchctl"
now() { cut -d. -f1 /proc/uptime; }
while read -r program name; do
    begin=$(now)
    # Each in a process of its own, as by nextest: what it makes ends with it.
    timeout "$patience" "$memory/$program" --exact "$name" --nocapture >/dev/shm/log 2>&1 </dev/null
    code=$?
    word=PASS why=
    if [ "$code" != 0 ]; then
        word=FAIL why=" exit code $code"
    elif why=$(grep -m 1 "^nothing to test without" /dev/shm/log); then
        word=NONE why=" $why"
    fi
    echo "$word $program $name ($(($(now) - begin)) s)$why"
    [ "$code" = 0 ] || tail -n 40 /dev/shm/log | sed 's/^/    /'
done <"$tests" | tee "$results/log"
count() { grep -c "^$1 " "$results/log"; }
echo "Linux $(uname -r): $(count PASS) passed, $(count FAIL) failed, $(count NONE) left out" | tee -a "$results/log"
[ "$(count FAIL)" = 0 ]
echo $? >"$results/code"
