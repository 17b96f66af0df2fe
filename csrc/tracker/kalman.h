// A Kalman filter over a box that moves at a steady speed: centre x and y, aspect (width / height) and height.
//
// Transition, measurement and noises of this model keep the four numbers apart, so the textbook's 8 x 8 covariance
// only ever holds four 2 x 2 blocks. They are carried and multiplied out one by one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace svm::tracker {

// One number of a box and its speed per frame, with their variances and their covariance.
struct Axis {
  double position, velocity;
  double position_variance, covariance, velocity_variance;

  void predict(double position_noise, double velocity_noise) {
    position += velocity;
    position_variance += 2 * covariance + velocity_variance + square(position_noise);
    covariance += velocity_variance;
    velocity_variance += square(velocity_noise);
  }

  // Variances stay at or above zero whatever rounding does: covariance never turns negative, and the last line says so.
  void correct(double measured, double noise) {
    const double measured_variance = square(noise);
    const double total = position_variance + measured_variance;
    const double gain = position_variance / total, velocity_gain = covariance / total;
    const double surprise = measured - position;
    position += gain * surprise;
    velocity += velocity_gain * surprise;
    velocity_variance = std::max(velocity_variance - velocity_gain * covariance, 0.0);
    position_variance = gain * measured_variance;
    covariance = velocity_gain * measured_variance;
  }

  static double square(double value) { return value * value; }
};

struct Box {
  double x1, y1, x2, y2;
};

class BoxFilter {
 public:
  Axis x, y, aspect, height;

  static BoxFilter start(const Box& box) {
    const Shape shape(box);
    const double size = scale(shape.height);
    const auto axis = [](double position, double deviation, double velocity_deviation) {
      return Axis{position, 0.0, Axis::square(deviation), 0.0, Axis::square(velocity_deviation)};
    };
    const double place = 2 * kPlace * size, speed = 10 * kSpeed * size;
    return {axis(shape.x, place, speed), axis(shape.y, place, speed), axis(shape.aspect, 1e-2, 1e-5),
            axis(shape.height, place, speed)};
  }

  void predict() {
    const double place = kPlace * scale(height.position), speed = kSpeed * scale(height.position);
    x.predict(place, speed);
    y.predict(place, speed);
    aspect.predict(1e-2, 1e-5);
    height.predict(place, speed);
  }

  void correct(const Box& box) {
    const Shape shape(box);
    const double noise = kPlace * scale(height.position);
    x.correct(shape.x, noise);
    y.correct(shape.y, noise);
    if (!shape.flat) aspect.correct(shape.aspect, 1e-1);
    height.correct(shape.height, noise);
  }

  // The box that so many further frames of the same movement lead to; its height stays.
  Box ahead(int64_t frames) const {
    const double steps = static_cast<double>(frames);
    const double centre_x = x.position + steps * x.velocity, centre_y = y.position + steps * y.velocity;
    const double half_height = height.position / 2;
    const double half_width = (aspect.position + steps * aspect.velocity) * half_height;
    return {centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height};
  }

 private:
  static constexpr double kPlace = 1.0 / 20, kSpeed = 1.0 / 160;  // deviations, as shares of the height
  static constexpr double kFlat = 1e-6;                           // a box that is less high has no aspect

  struct Shape {
    explicit Shape(const Box& box)
        : x((box.x1 + box.x2) / 2), y((box.y1 + box.y2) / 2), height(box.y2 - box.y1), flat(height < kFlat) {
      aspect = flat ? 0.0 : (box.x2 - box.x1) / height;
    }
    double x, y, height, aspect;
    bool flat;
  };

  // Without a floor a box of no height would be known without any doubt, and no measurement could move it.
  static double scale(double height) { return std::max(std::abs(height), kFlat); }
};

}  // namespace svm::tracker
