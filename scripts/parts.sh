# shellcheck shell=bash
# The parts of a system that visage needs: how each is recognized, and the packages that contain it. To be sourced by
# lib.sh.
#
# A part is recognized by its files and programs, not by the name of the system, so that a part built by hand is found
# as well.

# Columns: part, description, packages for apt, dnf, pacman and brew. "-": the package manager has no such package.
parts_table() {
    cat <<'END'
certificates | certificates of the public authorities | ca-certificates | ca-certificates | ca-certificates | ca-certificates
curl | curl | curl | curl | curl | curl
make | make | make | make | make | make
compiler | a compiler of C and C++ with the headers of its libraries | gcc g++ libc6-dev | gcc gcc-c++ glibc-devel | gcc | gcc
pkg-config | pkg-config | pkg-config | pkgconf-pkg-config | pkgconf | pkgconf
libclang | clang and libclang, version 14 or newer | @clang | clang clang-libs | clang | llvm
opencv | OpenCV 4.6 or newer with headers (core, imgproc) | libopencv-core-dev libopencv-imgproc-dev | opencv-devel | opencv | opencv
ffmpeg-headers | FFmpeg 5.1 to 8 with headers (libavformat, libavcodec, libavutil, libswscale, libswresample) | libavformat-dev libavcodec-dev libavutil-dev libswscale-dev libswresample-dev | ffmpeg-free-devel | ffmpeg | ffmpeg
ffmpeg | the program ffmpeg, with libx264 | ffmpeg | ffmpeg-free | ffmpeg | ffmpeg
jq | jq | jq | jq | jq | jq
python3 | Python 3.9 or newer | python3 | python3 | python | python3
pip | pip, for the machine's python3 | python3-pip | python3-pip | python-pip | python3
venv | virtual environments, for the machine's python3 | python3-venv | python3 | python | python3
wrk | wrk | wrk | wrk | - | wrk
openssl | openssl | openssl | openssl | openssl | openssl
shellcheck | shellcheck | shellcheck | ShellCheck | shellcheck | shellcheck
node | Node.js 18 or newer | nodejs | nodejs | nodejs | node
pdftotext | the tools of poppler (pdftotext, pdftoppm) | poppler-utils | poppler-utils | poppler | poppler
chromium | Chromium or Chrome | chromium | chromium | chromium | chromium
chromedriver | chromedriver, of the browser's version | chromium-driver | chromedriver | chromium | chromedriver
dejavu | the DejaVu fonts | fonts-dejavu-core | dejavu-sans-fonts | ttf-dejavu | font-dejavu
lavapipe | Vulkan on the CPU (lavapipe) | mesa-vulkan-drivers | mesa-vulkan-drivers | vulkan-swrast | -
postgres | the server programs of Postgres (initdb, postgres) | postgresql | postgresql-server | postgresql | postgresql
END
}

# The parts for building visage.
build_parts=(certificates curl make compiler pkg-config libclang opencv ffmpeg-headers)
export build_parts

# The further parts for the tests.
test_parts=(ffmpeg jq python3 pip venv openssl shellcheck node pdftotext chromium chromedriver dejavu lavapipe postgres)
export test_parts

# The oldest and the newest FFmpeg that visage was built with, as the major version of libavcodec: 5.1 and 8.
oldest_avcodec=59
newest_avcodec=62
export newest_avcodec

has_part() {
    case $1 in
        certificates) [ -s "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ] || [ -s /etc/ssl/cert.pem ] ;;
        compiler) have cc && have c++ && echo '#include <cstdlib>' | c++ -x c++ -fsyntax-only - 2>/dev/null ;;
        libclang) has_libclang ;;
        opencv) has_opencv ;;
        ffmpeg-headers) pkg-config --exists "libavcodec >= $oldest_avcodec" libavformat libavutil libswscale libswresample 2>/dev/null ;;
        python3) python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null ;;
        node) node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)' 2>/dev/null ;;
        pip) python3 -m pip --version >/dev/null 2>&1 ;;
        venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        chromium) have chromium || have chromium-browser || have google-chrome ;;
        dejavu) [ -n "$(find /usr/share/fonts -iname DejaVuSans.ttf -print -quit 2>/dev/null)" ] ;;
        lavapipe) compgen -G '/usr/share/vulkan/icd.d/lvp_icd*' >/dev/null ;;
        postgres) have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ -x "$(pg_config --bindir 2>/dev/null)/initdb" ] ;;
        *) have "$1" ;;
    esac
}

# Needs the program in any version, which the binding asks for the C++ headers, and the library in version 14 or newer.
has_libclang() {
    local version
    # grep -q would end before compgen does, which counts as a failure of the pipe.
    compgen -c | grep -xE 'clang(-[0-9]+)?' >/dev/null || return 1
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    # Debian names the library libclang-14.so.1, others libclang.so.19.1.
    for version in $({ PATH=$PATH:/sbin:/usr/sbin ldconfig -p; ls -d /usr/lib/llvm*/lib*/* /usr/lib*/libclang*; } 2>/dev/null |
        sed -nE 's/.*libclang-([0-9]+)\.so.*/\1/p; s/.*libclang\.so\.([0-9]+).*/\1/p'); do
        [ "$version" -lt 14 ] || return 0
    done
    return 1
}

# Searches the folders in which .cargo/config.toml lets the binding search, for the same modules.
has_opencv() {
    local folders folder version
    folders=${OPENCV_INCLUDE_PATHS:-$(sed -n 's/^OPENCV_INCLUDE_PATHS = "\(.*\)"$/\1/p' "$root/.cargo/config.toml")}
    for folder in ${folders//,/ }; do
        version=$(sed -nE 's/^#define CV_VERSION_(MAJOR|MINOR) +([0-9]+)$/\2/p' "$folder/opencv2/core/version.hpp" 2>/dev/null | paste -sd.) || continue
        [ -n "$version" ] && [ "$(printf '4.6\n%s\n' "$version" | sort -V | head -n 1)" = 4.6 ] &&
            [ -e "$folder/opencv2/imgproc.hpp" ] && return 0
    done
    return 1
}

# Prints the Debian packages of the default clang: clang-14 libclang1-14 on Debian 12. The packages without a version
# would also install the headers of libclang, which are large and not needed.
clang_packages() {
    local version
    apt_update
    version=$(apt-cache depends clang 2>/dev/null | sed -nE 's/^ *Depends: clang-([0-9]+)$/\1/p' | head -n 1)
    [ -n "$version" ] || version=$(apt-cache pkgnames clang- | sed -nE 's/^clang-([0-9]+)$/\1/p' | sort -n | tail -n 1)
    echo "clang-$version libclang1-$version"
}

# Prints a cell of the table: "what" (the description), "apt", "dnf", "pacman" or "brew" of a part.
part_cell() {
    local column
    case $1 in what) column=2 ;; apt) column=3 ;; dnf) column=4 ;; pacman) column=5 ;; brew) column=6 ;; esac
    parts_table | awk -F ' [|] ' -v part="$2" -v column="$column" '$1 == part { print $column }'
}

# Installs the missing ones of the given parts with apt-get. On a system without it, ends with a list of the missing
# parts and the names of their packages.
require() {
    local part brought missing=() packages=()
    for part in "$@"; do
        has_part "$part" || missing+=("$part")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    have apt-get || die_of_missing "${missing[@]}"
    for part in "${missing[@]}"; do
        case $(part_cell apt "$part") in
            @clang) read -ra brought <<<"$(clang_packages)" ;;
            *) read -ra brought <<<"$(part_cell apt "$part")" ;;
        esac
        packages+=("${brought[@]}")
    done
    apt_install "${packages[@]}"
    for part in "${missing[@]}"; do
        has_part "$part" || die "the packages of apt-get do not contain $(part_cell what "$part"): install it by hand"
    done
}

# Ends with a list of the parts to install on a system without apt-get.
die_of_missing() {
    local manager part list='' line=''
    for manager in dnf pacman brew -; do
        [ "$manager" = - ] || ! have "$manager" || break
    done
    for part in "$@"; do
        list+=$'\n'"  - $(part_cell what "$part")"
        line+=" $(part_cell "$manager" "$part")"
    done
    case $manager in
        dnf) line="sudo dnf install$line" ;;
        pacman) line="sudo pacman -S --needed$line" ;;
        brew) line="brew install$line" ;;
        -) die "this system has no apt-get. Install these parts with its own package manager, and try again:$list" ;;
    esac
    die "this system has no apt-get. Install these parts, and try again:$list
Command, with the packages whose names are known: ${line// - / }"
}
