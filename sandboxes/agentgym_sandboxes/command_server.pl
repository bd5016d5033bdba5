# Starts a container's commands, one at a time, for agentgym_sandboxes/docker_server.py. Runs as the commands' user.
#
# A request on stdin: its length (4 bytes, big-endian); then, separated by NUL, the directory, the deadline in whole
# seconds, the number of bytes of the command's stdin, the number of environment variables, these as NAME=VALUE, program
# and arguments; then those bytes. An answer on stdout is in frames like Docker's: kind (1 byte), three NULs, length (4
# bytes), payload. The kinds: 1 stdout, 2 stderr, 3 the end: a line with the exit status, or with "-" and why nothing
# could be started. Before all answers comes one of kind 3 with our process id.
use strict;
use POSIX ();

my ($CHUNK, $REST_S, $LONGEST_REST_S, $MOST_LEFT) = (65536, 0.2, 2, 32);

# No core, and /proc/PID and ptrace are closed to the same user: no command can write results in our name. It is
# prctl(PR_SET_DUMPABLE, 0), and the next exec undoes it.
my $prctl = { x86_64 => 157, aarch64 => 167 }->{ (POSIX::uname())[4] };
syscall($prctl, 4, 0, 0, 0, 0) if $prctl;

my $main = 0;    # the command that runs
my @left;        # pipes that children of ended commands hold: read on, or these children would die of SIGPIPE
$SIG{PIPE} = 'IGNORE';
$SIG{CHLD} = sub { };    # ends a select
$SIG{ALRM} = \&leave;    # whoever asked should have ended the command long before

sub leave {
    kill 'KILL', -1 if $main;
    POSIX::_exit(0);
}

sub answer {
    my ($kind, $data) = @_;
    my $frame = pack('CxxxN', $kind, length $data) . $data;
    while (length $frame) {
        my $count = syswrite STDOUT, $frame;
        if (defined $count) { substr($frame, 0, $count, '') }
        elsif ($! != POSIX::EINTR) { leave() }
    }
}

sub receive {
    my ($size) = @_;
    my $data = '';
    while (length $data < $size) {
        my $count = sysread STDIN, $data, $size - length $data, length $data;
        leave() if defined $count ? !$count : $! != POSIX::EINTR;
    }
    return $data;
}

sub skip {
    my ($size) = @_;
    while ($size > 0) {
        my $part = $size < $CHUNK ? $size : $CHUNK;
        receive($part);
        $size -= $part;
    }
}

sub drain_left {
    my ($readable) = @_;
    @left = grep { !vec($readable, fileno $_, 1) || sysread $_, my $dropped, $CHUNK } @left;
}

sub bits {
    my $bits = '';
    vec($bits, fileno $_, 1) = 1 for @_;
    return $bits;
}

sub idle {
    while (1) {
        next if select(my $readable = bits(*STDIN, @left), undef, undef, undef) <= 0;
        drain_left($readable);
        return if vec $readable, 0, 1;
    }
}

sub become {
    my ($directory, $env, $argv) = @_;
    $SIG{PIPE} = 'DEFAULT';
    POSIX::setsid();
    my ($status, $complaint) = (125, "cannot change directory to '$directory'");
    if (chdir $directory) {
        for (@$env) { my ($name, $value) = split /=/, $_, 2; $ENV{$name} = $value }
        exec { $argv->[0] } @$argv;
        ($status, $complaint) = ($! == POSIX::ENOENT ? 127 : 126, "cannot run '$argv->[0]'");
    }
    syswrite STDERR, "$complaint: $!\n";
    POSIX::_exit($status);
}

# Returns a fault, or nothing when the command runs; its ends of the pipes are in $pipes.
sub start {
    my ($pipes, $directory, $has_stdin, $env, $argv) = @_;
    my ($in, $out, $err);
    pipe($pipes->[1], $out) && pipe($pipes->[2], $err)
        && ($has_stdin ? pipe($in, $pipes->[0]) : open($in, '<', '/dev/null')) or return "no pipes: $!";
    my $pid = fork;
    return "fork: $!" if !defined $pid;
    if (!$pid) {
        POSIX::dup2(fileno $in, 0);
        POSIX::dup2(fileno $out, 1);
        POSIX::dup2(fileno $err, 2);
        become($directory, $env, $argv);
    }
    $main = $pid;
    fcntl $pipes->[0], POSIX::F_SETFL, POSIX::O_WRONLY | POSIX::O_NONBLOCK if $has_stdin;
    return;
}

sub run {
    my ($directory, $limit_s, $owed, $env, $argv) = @_;
    my @pipes;
    my $fault = start(\@pipes, $directory, $owed, $env, $argv);
    if (defined $fault) {
        skip($owed);
        return answer(3, "-$fault\n");
    }
    alarm $limit_s;
    my ($in, %streams) = ($pipes[0], 1 => $pipes[1], 2 => $pipes[2]);
    @pipes = ();
    my ($status, $ended, $pause, $unwritten) = (undef, 0, 0.0005, '');
    while (!defined $status || %streams) {
        my $reads_stdin = $owed == 0 || !length $unwritten;    # with nothing owed, only its end can come
        my $readable = bits(values %streams, @left, $reads_stdin ? *STDIN : ());
        my $writable = $in && length $unwritten ? bits($in) : '';
        my $wait = defined $status ? $REST_S : %streams ? 0.05 : ($pause = $pause < 0.025 ? 2 * $pause : 0.05);
        my $count = select $readable, $writable, undef, $wait;
        if ($count > 0) {
            drain_left($readable);
            for my $kind (keys %streams) {
                next if !vec $readable, fileno $streams{$kind}, 1;
                if (sysread $streams{$kind}, my $data, $CHUNK) { answer($kind, $data) }
                else { delete $streams{$kind} }
            }
            if ($in && length $writable && vec $writable, fileno $in, 1) {
                my $written = syswrite $in, $unwritten;
                if (defined $written) { substr($unwritten, 0, $written, '') }
                elsif ($! != POSIX::EAGAIN && $! != POSIX::EINTR) { undef $in; $unwritten = '' }
            }
            if ($reads_stdin && vec $readable, 0, 1) {
                leave() if !sysread STDIN, my $data, $owed < $CHUNK ? $owed || 1 : $CHUNK or !$owed;
                $owed -= length $data;
                $unwritten = $data if $in;
            }
        }
        undef $in if !$owed && !length $unwritten;
        if (defined $status) {
            # Children may hold the pipes open, and write for ever.
            last if $count == 0 || time - $ended > $LONGEST_REST_S;
        }
        elsif (waitpid($main, POSIX::WNOHANG) == $main) {
            ($status, $ended) = ($? & 127 ? 128 + ($? & 127) : $? >> 8, time);
        }
    }
    alarm 0;
    $main = 0;
    push @left, values %streams;
    splice @left, 0, @left - $MOST_LEFT if @left > $MOST_LEFT;
    answer(3, "$status\n");
    skip($owed);
}

answer(3, "$$\n");
while (1) {
    idle();
    my ($directory, $limit_s, $owed, $count, @words) = split /\0/, receive(unpack 'N', receive(4)), -1;
    my @env = splice @words, 0, $count;
    run($directory, $limit_s, $owed, \@env, \@words);
}
