#!/bin/sh
# drill.sh FOLDER WORDS...: runs `cdc-drill WORDS...` in CI. FOLDER has afterwards:
#
#   reports/        a folder a run or proof, with report.html
#   junit.xml       that of the last one
#   annotations.json  GitLab's code quality report (an empty list where nothing is wrong)
#   exit-code       the program's exit code, with which this script ends too
#
# On GitHub annotations go to the log, and exit-code, verdict, junit and report to $GITHUB_OUTPUT. $CDC_DRILL is the program, `cdc-drill`
# unless set. WORDS begin with run, prove or report. Only exit code 0 is green: 10, 11 and 12 failed, and with any other one nobody knows.
set -u
if [ $# -lt 2 ]; then
    echo "expected: drill.sh FOLDER run|prove|report ..." >&2
    exit 2
fi
folder=$1
shift
program=${CDC_DRILL:-cdc-drill}
mkdir -p "$folder/reports" || exit 1
# What an earlier job left is not this one's result.
rm -f "$folder/junit.xml" "$folder/annotations.json" "$folder/exit-code"

case $1 in
run | prove | report) ;;
*)
    echo "expected run, prove or report, found $1" >&2
    exit 2
    ;;
esac
command=$1
shift
if [ "$command" = report ] && [ $# -gt 0 ] && [ -d "$1" ]; then
    # Reports are made in the run's folder: in a copy, with the others.
    run=$folder/reports/$(basename "$1")
    mkdir -p "$run" && cp -R "$1/." "$run/" || exit 1
    shift
    set -- "$run" "$@"
fi
set -- "$command" --report-dir "$folder/reports" --annotations "gitlab=$folder/annotations.json" "$@"
[ -z "${GITHUB_ACTIONS:-}" ] || set -- "$@" --annotations github

"$program" "$@"
code=$?

case $code in
0) verdict=passed ;;
10 | 11 | 12) verdict=failed ;;
*) verdict=inconclusive ;;
esac
echo "$code" >"$folder/exit-code"
# Names of runs and proofs begin with their time.
last=
for report in "$folder"/reports/*/; do
    [ -f "${report}junit.xml" ] && last=${report%/}
done
if [ -n "$last" ]; then
    cp "$last/junit.xml" "$folder/junit.xml"
else
    echo "cdc-drill ended with exit code $code and made no report" >&2
    [ -z "${GITHUB_ACTIONS:-}" ] || echo "::error title=cdc-drill::it ended with exit code $code and made no report"
fi
[ -f "$folder/annotations.json" ] || echo '[]' >"$folder/annotations.json"
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    {
        echo "exit-code=$code"
        echo "verdict=$verdict"
        echo "junit=$([ -z "$last" ] || echo "$folder/junit.xml")"
        echo "report=${last:+$last/report.html}"
    } >>"$GITHUB_OUTPUT"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    echo "**cdc-drill $command: $verdict** (exit code $code)" >>"$GITHUB_STEP_SUMMARY"
fi
exit "$code"
