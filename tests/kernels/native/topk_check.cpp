// Compares asif_topk, as compiled for one instruction set, with the definition of its result; ends with 1 if they differ.
//
// Scores are sums of integers, exact: entries on the canonical grid are multiples of 2^-26. Rows are random, tied, nearly tied,
// or hostile: zero, subnormal, dominated by one entry, longer than the contract allows.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" {
const char* asif_instructions();
int64_t asif_topk(const float*, int64_t, const char* const*, const int64_t*, const int64_t*, const char* const*, const int16_t*,
                  int64_t, int, int, int64_t, int64_t, int, const int*, int64_t*, float*);
int64_t asif_whole_bytes(int64_t, int);
int64_t asif_make_whole(const char* const*, const int64_t*, const int64_t*, int64_t, int, int, int16_t*);
int64_t asif_quantised_bytes(int);
int64_t asif_quantise(const char*, int64_t, int64_t, int, int, int, char*);
}

namespace {

enum Type { HALF, BRAIN, FLOAT };
enum Kind { RANDOM, TIED, NEARLY_TIED, HOSTILE };
const char* const TYPES[] = {"float16", "bfloat16", "float32"};
enum Form { STORED, INT8, WHOLE };
const char* const FORMS[] = {"as stored", "in int8", "as whole numbers"};
const char* const KINDS[] = {"random", "tied", "nearly tied", "hostile"};

int bytes_of(Type type) { return type == FLOAT ? 4 : 2; }

// Uniform in [-1, 1).
double draw() {
    static uint64_t state = 88172645463325252;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (double)(int64_t)state * 0x1p-63;
}

std::vector<float> unit_row(int dim) {
    std::vector<float> row(dim);
    double square = 0;
    for (float& entry : row) entry = (float)(draw() + draw() + draw()), square += (double)entry * entry;
    for (float& entry : row) entry = (float)(entry / std::sqrt(square));
    return row;
}

// Write an entry; returns its value as stored.
float store(Type type, float value, char* to) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    if (type == FLOAT) return std::memcpy(to, &value, 4), value;
    uint16_t half = (uint16_t)((bits + 0x8000) >> 16);
    if (type == HALF) {
        const float size = std::fabs(value);
        const int exponent = size < 0x1p-14f ? -14 : std::ilogb(size);
        const int whole = (int)std::lrint(std::ldexp(size, 10 - exponent));  // of 1024 parts; carries count the exponent up
        half = (uint16_t)(((exponent + 14) << 10) + whole + (value < 0 ? 0x8000 : 0));
        const int kept = half & 0x7fff, place = std::max(kept >> 10, 1);
        const float back = (float)std::ldexp(kept - ((place - 1) << 10), place - 25);
        return std::memcpy(to, &half, 2), value < 0 ? -back : back;
    }
    bits = (uint32_t)half << 16;
    std::memcpy(&value, &bits, 4);
    return std::memcpy(to, &half, 2), value;
}

int64_t grid(float value) { return (int64_t)std::nearbyint(value * 0x1p26); }

std::vector<float> make_row(Kind kind, int dim, int at, const std::vector<std::vector<float>>& models) {
    std::vector<float> row = kind == TIED || kind == NEARLY_TIED ? models[at % models.size()] : unit_row(dim);
    if (kind == NEARLY_TIED) row[at % dim] += (float)(draw() * 1e-6);
    if (kind != HOSTILE) return row;
    if (at % 5 == 0) std::fill(row.begin(), row.end(), 0.0f);
    if (at % 5 == 1) {
        for (float& entry : row) entry *= 1e-3f;
        row[at % dim] = 1;
    }
    if (at % 5 == 2) std::fill(row.begin(), row.end(), 1e-7f), row[0] = 1e-40f;
    if (at % 50 == 3) std::fill(row.begin(), row.end(), 0.0f), row[at % dim] = 8;
    return row;
}

struct Anchors {
    Type type;
    int dim;
    int64_t count;
    std::vector<char> rows, quantised;
    std::vector<int64_t> entries;  // on the grid

    Anchors(Kind kind, Type type_, int dim_, int64_t count_)
        : type(type_), dim(dim_), count(count_), rows(count * dim * bytes_of(type)), quantised(count * asif_quantised_bytes(dim)) {
        std::vector<std::vector<float>> models;
        for (int model = 0; model < 7; ++model) models.push_back(unit_row(dim));
        for (int64_t at = 0; at < count; ++at) {
            const std::vector<float> row = make_row(kind, dim, (int)at, models);
            for (int entry = 0; entry < dim; ++entry)
                entries.push_back(grid(store(type, row[entry], &rows[(at * dim + entry) * bytes_of(type)])));
        }
        asif_quantise(rows.data(), dim * bytes_of(type), count, dim, type, 1, quantised.data());
    }
};

struct Scored {
    float score;
    int64_t index;
};

std::vector<Scored> ranked(const std::vector<float>& query, const Anchors& anchors) {
    std::vector<int64_t> wanted;
    for (float entry : query) wanted.push_back(grid(entry));
    std::vector<Scored> all;
    for (int64_t at = 0; at < anchors.count; ++at) {
        const int64_t* const row = &anchors.entries[at * anchors.dim];
        int64_t total = 0;
        for (int entry = 0; entry < anchors.dim; ++entry) total += row[entry] * wanted[entry];
        all.push_back({(float)total * 0x1p-52f, at});
    }
    std::sort(all.begin(), all.end(),
              [](const Scored& a, const Scored& b) { return a.score > b.score || (a.score == b.score && a.index < b.index); });
    return all;
}

// Search anchors in two blocks, as among few or as among many; returns what asif_topk returns.
int64_t search(const Anchors& anchors, const float* queries, int64_t count, int64_t k, Form form, bool small,
               int64_t* indices, float* scores) {
    const int64_t cut = anchors.count / 3, stride = anchors.dim * bytes_of(anchors.type);
    const char* const blocks[] = {anchors.rows.data(), &anchors.rows[cut * stride]};
    const char* const forms[] = {anchors.quantised.data(), &anchors.quantised[cut * asif_quantised_bytes(anchors.dim)]};
    const int64_t strides[] = {stride, stride}, starts[] = {0, cut, anchors.count};
    const int stop = 0;
    std::vector<int16_t> whole(asif_whole_bytes(anchors.count, anchors.dim) / 2);
    const bool unfit = asif_make_whole(blocks, strides, starts, 2, anchors.dim, anchors.type, whole.data());
    return asif_topk(queries, count, blocks, strides, starts, form == INT8 ? forms : nullptr,
                     form == WHOLE && !unfit ? whole.data() : nullptr, 2, anchors.dim, anchors.type, k,
                     small ? anchors.count : 0, 2, &stop, indices, scores);
}

int searches = 0;

void compare(Kind kind, const Anchors& anchors, const std::vector<float>& queries, const std::vector<std::vector<Scored>>& right,
             int64_t count, int64_t k, Form form) {
    std::vector<int64_t> indices(count * k);
    std::vector<float> scores(count * k);
    const bool small = form == WHOLE || draw() < 0;
    const int64_t problem = search(anchors, queries.data(), count, k, form, small, indices.data(), scores.data());
    ++searches;
    for (int64_t at = 0; at < count * k; ++at) {
        const Scored& expected = right[at / k][at % k];
        if (!problem && indices[at] == expected.index && scores[at] == expected.score) continue;
        std::printf("%s %s rows of %d, %d queries, k %d, %s, small %d: %d; query %d rank %d: %d %.9g, expected %d %.9g\n",
                    KINDS[kind], TYPES[anchors.type], anchors.dim, (int)count, (int)k, FORMS[form], small, (int)problem,
                    (int)(at / k), (int)(at % k), (int)indices[at], scores[at], (int)expected.index, expected.score);
        std::exit(1);
    }
}

// Search with few and many queries, for few and many anchors of all: every product takes part.
void check(Kind kind, Type type, int dim, int64_t count) {
    constexpr int QUERIES = 64;
    const Anchors anchors(kind, type, dim, count);
    std::vector<float> queries;
    std::vector<std::vector<Scored>> right;
    for (int at = 0; at < QUERIES; ++at) {
        std::vector<float> query = unit_row(dim);
        if (kind == HOSTILE && at % 9 == 4) std::fill(query.begin(), query.end(), 0.0f);
        if (kind == NEARLY_TIED && at == 62)
            for (float& entry : query) entry *= 2.5f;  // too long for whole numbers
        queries.insert(queries.end(), query.begin(), query.end());
        right.push_back(ranked(query, anchors));
    }
    for (int asked : {1, 3, 8, 9, 64})
        for (int64_t k : {(int64_t)1, count / 30, count / 4, count - count / 9})
            for (Form form : {STORED, INT8, WHOLE})
                if (form != INT8 || asked <= 8) compare(kind, anchors, queries, right, asked, k, form);
}

void check_refusal() {
    Anchors anchors(RANDOM, FLOAT, 40, 300);
    const float nothing = NAN;
    std::memcpy(&anchors.rows[4 * (40 * 200 + 7)], &nothing, 4);
    asif_quantise(anchors.rows.data(), 160, 300, 40, FLOAT, 1, anchors.quantised.data());
    const std::vector<float> queries(40 * 9, 0.1f);
    std::vector<int64_t> indices(9 * 5);
    std::vector<float> scores(9 * 5);
    for (int count : {1, 9})
        for (Form form : {STORED, INT8, WHOLE})
            for (bool small : {false, true})
                if (search(anchors, queries.data(), count, 5, form, small, indices.data(), scores.data()) <= 0) {
                    std::printf("%d queries, %s, small %d: a row that is not finite was not refused\n", count, FORMS[form],
                                small);
                    std::exit(1);
                }
}

}  // namespace

int main() {
    for (int kind : {RANDOM, TIED, NEARLY_TIED, HOSTILE})
        for (int type : {HALF, BRAIN, FLOAT})
            for (int dim : {1, 31, 384, 1280}) check((Kind)kind, (Type)type, dim, dim < 100 ? 500 : dim < 1000 ? 200 : 80);
    check(RANDOM, FLOAT, 9000, 60);  // more entries than are added at a time
    check_refusal();
    std::printf("%d searches are right; this processor has: %s\n", searches, asif_instructions());
}
